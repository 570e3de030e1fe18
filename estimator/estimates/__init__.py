"""One module a command: plain functions from options to a Report. The command line calls nothing else."""
