"""What every training shares, whatever it trains: from its command line to its log."""
