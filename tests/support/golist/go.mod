module imsy.dev/tests/golist

go 1.19
