"""Google's TPUs, read through libtpu."""
