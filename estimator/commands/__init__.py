"""One module a command: options in, an estimate called, a report emitted. No arithmetic here."""
