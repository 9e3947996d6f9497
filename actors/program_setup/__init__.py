"""Set-up of other programs for this server, used by the command line and the console. No file is read or written here."""
