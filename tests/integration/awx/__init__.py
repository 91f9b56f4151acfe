"""A controller for the tests: an HTTP server with the shapes of AWX's API, and what AWX makes around a job."""
