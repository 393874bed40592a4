complete -c pyst-fmt -s f -l format -d 'What to print' -r -f -a "text\t'For people: one block a thread, most recent call last'
json\t'One indented JSON document per snapshot'
jsonl\t'One JSON document per snapshot, each on a line'"
complete -c pyst-fmt -l color -d 'Colour the text: auto means on a terminal, unless NO_COLOR is set or CLICOLOR is 0' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c pyst-fmt -s o -l output -d 'Write to FILE instead of standard output' -r -F
complete -c pyst-fmt -l all-threads -d 'Show threads without Python frames too'
complete -c pyst-fmt -l native-internals -d 'Show the interpreter\'s own native frames too'
complete -c pyst-fmt -l native-last -d 'Of native frames show only those that the innermost Python frame called'
complete -c pyst-fmt -l schema -d 'Print the JSON Schema of the report, and exit'
complete -c pyst-fmt -s v -l verbose -d 'Print diagnostics that only inform, too'
complete -c pyst-fmt -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pyst-fmt -s V -l version -d 'Print version'
