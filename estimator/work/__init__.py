"""The work of a model: the list of its matrix products, forward and backward, that FLOPs and times are folds over."""
