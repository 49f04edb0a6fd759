"""The wire: topics and messages (pure), and the MQTT client."""
