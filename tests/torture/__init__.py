"""Long tests, each of them a matrix; a short sample of each is in the acceptance tests."""
