"""The command line: arguments in, one library call, one result out."""
