"""What `run()` refuses, one line each: the type of the error, and what it says."""

import threading

import minicorn


def app(environ, start_response):
    raise AssertionError("it is never called")


def tell(application, **settings):
    try:
        minicorn.run(application, bind="127.0.0.1:0", **settings)
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())
        print(f"{type(error).__name__}: {text}", flush=True)


tell(app, wokers=2)
tell(app, pre_fork=print)
tell(app, check_config=True)
tell(app, workers=0)
tell(app, log_level="loud")
tell(app, certfile="a.pem")
tell(app, keep_alive=object())
tell(app, reload=True)
tell(3)
tell("served:nothing")
tell(app, user="no-such-user")
tell(app, pid="no/such/folder/pid")
thread = threading.Thread(target=tell, args=(app,))
thread.start()
thread.join()
