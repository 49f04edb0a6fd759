"""`doord setup`: a guided first start on the device, and the commissioning report at its end."""
