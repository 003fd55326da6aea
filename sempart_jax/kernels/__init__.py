"""Fast ways to do ordinary things, as pure functions of arrays."""
