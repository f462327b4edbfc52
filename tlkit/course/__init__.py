"""The course around the library: checks of the exercises, and the machinery that runs and renders the notebooks."""
