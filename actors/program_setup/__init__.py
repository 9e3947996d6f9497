"""What other programs are told to use this server, for the command line and for the console. Pure: nothing here reads or writes a file."""
