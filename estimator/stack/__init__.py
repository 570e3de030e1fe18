"""A simulator of eager PyTorch: tensors without data, an autograd engine and the caching allocator's bookkeeping.

Lowering code written against it reads like the modeling file it imitates; which tensors are alive when, and hence
every peak, falls out of Python's own reference counting, exactly as in the real program.
"""
