"""What can be asked for on the command line, a module for each topic: options in, results out."""
