complete -c minicorn -s c -l config -d 'The configuration file: PATH, file:PATH or python:MODULE. Without it, the first that is there of minicorn.toml, minicorn.conf.py, gunicorn.conf.py and pyproject.toml with [tool.minicorn]; none = no file (./none is one)' -r
complete -c minicorn -l wsgi-app -d 'The application, for a configuration file that names it' -r
complete -c minicorn -l chdir -d 'Change to this directory first; the application is imported from there' -r -F
complete -c minicorn -s e -l env -d 'Set an environment variable for the application; repeatable' -r
complete -c minicorn -s b -l bind -d 'Listen here: HOST, HOST:PORT, :PORT, [IPV6]:PORT, unix:PATH, unix:@NAME (abstract) or fd://N (inherited); repeatable; wins over --host and --port' -r
complete -c minicorn -l host -d 'Listen on this name or IP address' -r
complete -c minicorn -l port -d 'Listen on this port; 0 = any free one. The environment variable PORT alone means --bind 0.0.0.0:PORT' -r
complete -c minicorn -l backlog -d 'Connections the kernel queues until a worker takes them, at most net.core.somaxconn' -r
complete -c minicorn -l reuse-port -d 'Set SO_REUSEPORT, so that another server may listen on the same port' -r -f -a "true\t''
false\t''"
complete -c minicorn -s w -l workers -d 'Worker processes; auto = as many as the CPUs this process may use. The environment variable WEB_CONCURRENCY says it as well' -r
complete -c minicorn -s k -l worker-class -d 'Accepted for sync and gthread, which mean the same here; other classes are refused' -r
complete -c minicorn -l worker-connections -d 'Open connections of one worker; at this many it stops accepting' -r
complete -c minicorn -l threads -d 'Threads of each worker that call the application; more than 1 for applications that wait for databases and other services' -r
complete -c minicorn -l no-passing -d 'Leave each connection with the worker that accepted it, instead of passing it to one that is idle' -r -f -a "true\t''
false\t''"
complete -c minicorn -l preload -d 'Import the application once, in a process from which the workers are forked: saves memory, and time when a worker is replaced' -r -f -a "true\t''
false\t''"
complete -c minicorn -l max-requests -d 'Replace a worker that has answered about so many requests; 0 = never' -r
complete -c minicorn -l max-requests-jitter -d 'Add a random number of requests up to this to --max-requests, for each worker another one' -r
complete -c minicorn -l max-worker-lifetime -d 'Replace a worker that has served for so long; 0 = never' -r
complete -c minicorn -l max-worker-rss -d 'Replace a worker that has more memory in RAM than this; K, M and G count in 1024s; 0 = never' -r
complete -c minicorn -s t -l timeout -d 'Replace a worker whose application works longer than this on one request; 0 = never' -r
complete -c minicorn -l graceful-timeout -d 'Time for requests in flight to finish when stopping; after it they are cut' -r
complete -c minicorn -l boot-timeout -d 'Time for a worker to import the application; after it the worker is killed, and its stacks are logged; 0 = no limit' -r
complete -c minicorn -l shutdown-delay -d 'Go on serving for so long after SIGTERM, for load balancers that hear of it late' -r
complete -c minicorn -l keep-alive -d 'Close a connection that has been idle for this long; 0 = after each response' -r
complete -c minicorn -l header-timeout -d 'Time for a client to send a request head, from its first byte; 0 = no limit' -r
complete -c minicorn -l body-timeout -d 'Longest pause of a client that sends a request body; 0 = no limit' -r
complete -c minicorn -l send-timeout -d 'Longest pause of a client that reads a response; 0 = no limit' -r
complete -c minicorn -l limit-request-line -d 'Longest request line, at most 8190; 0 = no limit. Longer ones get 414' -r
complete -c minicorn -l limit-request-fields -d 'Most header fields of a request, at most 32768; 0 = 32768. More get 431' -r
complete -c minicorn -l limit-request-field-size -d 'Longest header field line; 0 = 8190. Longer ones get 431' -r
complete -c minicorn -l limit-request-body -d 'Largest request body; K, M and G count in 1024s; 0 = no limit. Larger ones get 413' -r
complete -c minicorn -l body-memory-max -d 'Request bodies up to this size stay in memory, larger ones go to a temporary file' -r
complete -c minicorn -l no-request-buffering -d 'Call the application before the request body is there, for those that stream uploads; a slow client then occupies a thread of the application' -r -f -a "true\t''
false\t''"
complete -c minicorn -l response-memory-max -d 'So many bytes of a response may wait in memory for a client that reads slowly, more go to a temporary file' -r
complete -c minicorn -l response-file-max -d 'So many bytes of a response may wait in its temporary file; the application that produces more waits' -r
complete -c minicorn -l tmp-upload-dir -d 'Directory of the temporary files, which have no name there; without it TMPDIR, else /tmp' -r -F
complete -c minicorn -l worker-tmp-dir -d 'Accepted and not needed: heartbeats are in shared memory' -r -F
complete -c minicorn -l no-sendfile -d 'Read files and send them, instead of having the kernel do it' -r -f -a "true\t''
false\t''"
complete -c minicorn -l forwarded-allow-ips -d 'Peers whose forwarding headers are believed: addresses, networks as in 10.0.0.0/8, or *, separated by commas. Those of Unix sockets always are. The environment variable FORWARDED_ALLOW_IPS says it as well' -r
complete -c minicorn -l secure-scheme-headers -d 'Headers with which such a peer says that its client speaks HTTPS, each with the value that says so' -r
complete -c minicorn -l forwarder-headers -d 'Headers with an underscore in their names that such a peer may send, or *; SCRIPT_NAME is where the application is mounted' -r
complete -c minicorn -l header-map -d 'What becomes of other headers with an underscore in their names' -r -f -a "drop\t'The application does not see it'
refuse\t'The request gets a 400'
dangerous\t'The application sees it as the one with a hyphen'"
complete -c minicorn -l trusted-proxy-headers -d 'Headers of --forwarded-allow-ips that set REMOTE_ADDR, HTTP_HOST and the scheme: x-forwarded-for, x-forwarded-host, x-forwarded-proto, x-forwarded-port, x-forwarded-by, or forwarded alone, separated by commas. The application does not get to see them from anybody else' -r
complete -c minicorn -l trusted-proxy-count -d 'Proxies in a row whose entries in those headers are believed, counted from the server' -r
complete -c minicorn -l proxy-protocol -d 'Read the PROXY protocol at the beginning of connections, of this version; without a value: of either' -r
complete -c minicorn -l proxy-allow-from -d 'Peers that may speak it: addresses, networks, or *, separated by commas. Those of Unix sockets always may' -r
complete -c minicorn -l python -d 'The Python, or the virtual environment, to run the application with. Without it: VIRTUAL_ENV, CONDA_PREFIX, ./.venv, then the installation of the build' -r -F
complete -c minicorn -l pythonpath -d 'Directories to put at the front of sys.path, separated by commas' -r
complete -c minicorn -s D -l daemon -d 'Run in the background: the command returns when the server serves, or fails as it does' -r -f -a "true\t''
false\t''"
complete -c minicorn -s R -l enable-stdio-inheritance -d 'With --daemon, keep standard output and standard error if they are not a terminal' -r -f -a "true\t''
false\t''"
complete -c minicorn -s p -l pid -d 'Write the process id of the master to this file' -r -F
complete -c minicorn -s u -l user -d 'Run the workers as this user, a name or a number' -r
complete -c minicorn -s g -l group -d 'Run the workers as this group, a name or a number; without it, the group of --user' -r
complete -c minicorn -l initgroups -d 'Give the workers all groups that --user is a member of, instead of its group alone' -r -f -a "true\t''
false\t''"
complete -c minicorn -s m -l umask -d 'Permission bits that files of the server and the application do not get, as in 027 or 0o27' -r
complete -c minicorn -s n -l name -l proc-name -d 'Name in the titles of the processes, instead of the application\'s' -r
complete -c minicorn -l reload -d 'Reload when a file of the application changes' -r -f -a "true\t''
false\t''"
complete -c minicorn -l reload-extra-file -d 'Reload when this file changes, too; repeatable' -r -F
complete -c minicorn -l reload-engine -d 'How --reload finds changes' -r -f -a "auto\t'With inotify if there is room for it, else by polling'
inotify\t'With inotify'
poll\t'By looking at all files twice a second'"
complete -c minicorn -l spew -d 'Write each line of Python that runs to standard error: for the last resort' -r -f -a "true\t''
false\t''"
complete -c minicorn -l log-level -d 'Least severe messages the error log keeps' -r -f -a "debug\t''
info\t''
warning\t''
error\t''
critical\t''"
complete -c minicorn -l error-logfile -l log-file -d 'Error log; - = standard error' -r
complete -c minicorn -l access-logfile -d 'Access log; - = standard output, none = off' -r
complete -c minicorn -l access-logformat -d 'Line of the access log: mini, common, combined, json, or gunicorn\'s atoms, as in \'%(h)s "%(r)s" %(s)s\'' -r
complete -c minicorn -l access-log-skip -d 'Keep requests for these paths out of the access log, as in /healthz; a * at the end stands for any rest. Separated by commas, repeatable' -r
complete -c minicorn -l access-log-min-status -d 'Keep responses with a lower status out of the access log' -r
complete -c minicorn -l slow-request-log -d 'Write requests that take longer than this to the error log as well, as warnings; 0 = none' -r
complete -c minicorn -l request-id-header -d 'Name each request: by this header of it, or if it has none, anew. The name goes to the application, the access log and the response' -r
complete -c minicorn -l capture-output -d 'Send what the application writes to standard output and standard error to the error log' -r -f -a "true\t''
false\t''"
complete -c minicorn -l log-config -d 'Send both logs through Python\'s logging, configured by this file' -r -F
complete -c minicorn -l log-config-json -d 'The same, with a file of JSON for logging.config.dictConfig' -r -F
complete -c minicorn -l log-config-dict -d 'The same, with the JSON itself; in a Python file, a dict' -r
complete -c minicorn -l logger-class -d 'Accepted for gunicorn\'s own loggers; other classes are refused, see --log-config' -r
complete -c minicorn -l log-syslog -d 'Send the error log, and the access log if there is one, to syslog' -r -f -a "true\t''
false\t''"
complete -c minicorn -l log-syslog-to -d 'Where syslog is: udp://HOST:PORT, tcp://HOST:PORT, unix://PATH, unix://PATH#dgram or unix://PATH#stream' -r
complete -c minicorn -l log-syslog-prefix -d 'Name of the program in syslog, minicorn without it: NAME.error and NAME.access' -r
complete -c minicorn -l log-syslog-facility -d 'Facility of syslog' -r
complete -c minicorn -l disable-redirect-access-to-syslog -d 'Send the error log to syslog, but not the access log' -r -f -a "true\t''
false\t''"
complete -c minicorn -l admin-bind -d 'Serve /healthz, /readyz, /metrics, /status.json and a status page here, by the master: HOST:PORT, :PORT or unix:PATH; not for the open' -r
complete -c minicorn -l statsd-host -d 'Send metrics to this statsd: HOST:PORT or unix://PATH' -r
complete -c minicorn -l statsd-prefix -d 'Text in front of the names of those metrics' -r
complete -c minicorn -l dogstatsd-tags -d 'Tags to append to them, as DogStatsD reads them: NAME:VALUE, separated by commas' -r
complete -c minicorn -l enable-backlog-metric -d 'Send the number of connections that wait to be accepted, too' -r -f -a "true\t''
false\t''"
complete -c minicorn -l control-socket -d 'Listen for `minicorn ctl` at this Unix socket' -r -F
complete -c minicorn -l control-socket-mode -d 'Permission bits of that socket' -r
complete -c minicorn -l no-control-socket -d 'Do without it, whatever a configuration file says' -r -f -a "true\t''
false\t''"
complete -c minicorn -l permit-obsolete-folding -d 'Accept header values that go on in a further line (RFC 9112 §5.2)' -r -f -a "true\t''
false\t''"
complete -c minicorn -l strip-header-spaces -d 'Accept spaces between the name of a header and its colon; a proxy in front may read such a header differently' -r -f -a "true\t''
false\t''"
complete -c minicorn -l permit-unconventional-http-method -d 'Accept any token as a method, also shorter than 3 characters, longer than 20 or in lower case' -r -f -a "true\t''
false\t''"
complete -c minicorn -l permit-unconventional-http-version -d 'Accept versions other than HTTP/1.x in the request line' -r -f -a "true\t''
false\t''"
complete -c minicorn -l casefold-http-method -d 'Turn methods in lower case into upper case' -r -f -a "true\t''
false\t''"
complete -c minicorn -l http-parser -d 'Accepted for auto, fast and python: the parser is minicorn\'s own' -r -f -a "auto\t''
fast\t''
python\t''"
complete -c minicorn -l check-config -d 'Load the application, say whether that worked, and exit'
complete -c minicorn -l print-config -d 'Print every setting as it was understood, then do as --check-config'
complete -c minicorn -s v -l version -d 'Print the version and exit'
complete -c minicorn -s h -l help -d 'Print this help and exit'
