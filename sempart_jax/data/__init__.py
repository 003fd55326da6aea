"""Images from disk to the device, and made-up scenes with exact masks."""
