#!/bin/sh
# Assembles the module; needs wat2wasm (Debian: apt-get install wabt).
set -eu
cd "$(dirname "$0")/src"
wat2wasm primes.wat -o primes.wasm
