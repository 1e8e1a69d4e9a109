-- Sends the bytes of one file as they are, and prints the result as one line of JSON.
-- The file is written by the driver, so that the answer it checked and the load it measures belong to the same request.

-- Replacing wrk.init keeps the request static: wrk calls no Lua while it runs. Several requests in the file are a
-- pipelined batch, which wrk counts by itself.
wrk.init = function(args)
    local file = assert(io.open(args[1], "rb"))
    local bytes = file:read("*a")
    file:close()
    wrk.request = function() return bytes end
end

function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "microseconds": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, '
            .. '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}',
        summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
