"""Pure tensors: the sampling loop, prompt embeddings, named attention projections, the ridge solve."""
