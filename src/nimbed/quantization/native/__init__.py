"""The build for nimbed's own engine: numpy and the engine itself."""
