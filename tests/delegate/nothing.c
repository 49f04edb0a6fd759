/* A library that is no delegate. */
int nothing;
