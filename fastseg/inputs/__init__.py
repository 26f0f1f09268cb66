"""Values from outside: numbers and text, checked, made printable, or refused."""
