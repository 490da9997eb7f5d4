"""The build for OpenVINO."""
