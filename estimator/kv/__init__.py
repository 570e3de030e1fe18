"""The cache that generation keeps: what each layer holds under each kind of cache."""
