"""What training minimises, one file for each network that is trained here."""
