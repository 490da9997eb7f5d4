"""The build for nimbed's own engine: numpy alone."""
