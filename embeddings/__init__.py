"""The language model: packing, backbones, pooling, likelihoods, the store."""
