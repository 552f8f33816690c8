"""Tools that run in a checkout: a code generator and mutation tests."""
