#!/bin/sh
# Stands in for the C compiler that Triton calls as `cc SOURCE FLAGS -o TARGET FLAGS`: hands over
# what was compiled with the image, where the source is still the same.
set -eu
built="$(dirname "$0")"
cmp -s "$1" "$built/driver.c" || {
    echo "$0: this image has no C compiler, and $1 is not the file compiled with it" >&2
    exit 1
}
while [ "$1" != -o ]; do shift; done
exec cp "$built/driver.so" "$2"
