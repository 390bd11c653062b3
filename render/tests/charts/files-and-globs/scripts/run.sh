#!/bin/sh
echo "{{ not a template }}"

exit 0

