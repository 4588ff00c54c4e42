"""Networks -> weightless graphs, weight files, and the proof that they agree (needs `samlet[export]`)."""
