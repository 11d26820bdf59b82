"""What pages are made of: self-contained HTML, escaped, with figures inside. It knows nothing of what pages show."""
