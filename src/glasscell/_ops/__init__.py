"""A whole sequence as one differentiable operation, one file for each array library."""
