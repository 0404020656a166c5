"""Long tests over many cases. The acceptance tests have a short sample of each."""
