package abi

// Native is the ABI that this program itself is made for.
const Native = AMD64
