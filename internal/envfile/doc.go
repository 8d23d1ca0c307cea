// Package envfile reads files of environment variables, in the simple forms of
// systemd's EnvironmentFile (systemd.exec(5)). It starts nothing and expands
// nothing: no variables, no commands, no shell.
//
//	# a comment; so is a line that begins with a semicolon
//	KEY=VALUE
//	KEY = VALUE                 blanks around the key and the value are dropped
//	KEY="two  words "           in double quotes \" \\ \$ and \` lose their backslash
//	KEY='as "it" is\'           in single quotes nothing is special
//	KEY=                        set, and empty
//	KEY=a # b 'c' $D            without quotes at its beginning the value is the rest of the line
//
// A key is a letter or underscore, then letters, digits and underscores. Where
// a key comes twice, the last one counts. A value ends with its line: neither a
// quote nor a backslash carries it on to the next.
//
// Errors name the line but never quote it: such files hold passwords.
package envfile
