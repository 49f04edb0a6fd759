"""The models a door ships with; `manifest.yaml` says what each is."""
