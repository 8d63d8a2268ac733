"""From networks to files of others. The native format is in :mod:`fewbit.golden.file`."""
