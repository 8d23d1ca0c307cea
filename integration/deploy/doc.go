// Package deploy tests the files in the directory deploy of huptime: each is read with the parser of those who will read it in earnest. It
// is a module of its own, so that none of them becomes a dependency of huptime.
package deploy
