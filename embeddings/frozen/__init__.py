"""Evidence of the frozen model: pooled hidden states and likelihoods."""
