#!/usr/bin/env python3
"""Runs busted inside nginx's Lua module: a real server on loopback, and a request that runs the specs.

usage: nginx_busted.py NGINX MODULES BUSTED [busted's arguments...]

BUSTED is not run itself; what it would do is done in the server's own Lua state.
"""
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CONFIGURATION = """
{user}
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log notice;
env JEMALLOC_LUA_SETTING;
env JEMALLOC_LUA_SOURCE;
env JEMALLOC_LUA_JEMALLOC_SOURCE;
events {{ worker_connections 16; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location = /ready {{ return 200; }}
        location = /specs {{ content_by_lua_file {folder}/specs.lua; }}
    }}
}}
"""

# busted ends the process and writes to its output: here it ends the request and writes to the answer.
SPECS = """
local arguments = {arguments}
local output = {{}}
io.write = function(...)
    for i = 1, select("#", ...) do
        output[#output + 1] = tostring((select(i, ...)))
    end
    return io.stdout
end
io.stdout = setmetatable({{ write = function(self, ...) io.write(...) return self end,
    flush = function() end, setvbuf = function() end, close = function() end }}, {{ __name = "FILE*" }})
local code
os.exit = function(status)
    code = (status == true or status == nil) and 0 or tonumber(status) or 1
    error("the specs have ended")
end
rawset(_G, "arg", arguments)
local ok, message = pcall(function() require("busted.runner")({{ standalone = false }}) end)
if ok then
    code = 0
elseif code == nil then
    output[#output + 1] = tostring(message)
end
ngx.status = code == 0 and 200 or 500
ngx.print(table.concat(output))
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def request(port, path, timeout):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def main():
    if len(sys.argv) < 4:
        print("usage: nginx_busted.py NGINX MODULES BUSTED [ARGUMENT...]", file=sys.stderr)
        return 2
    nginx, modules, busted = sys.argv[1:4]
    arguments = ", ".join(json.dumps(text) for text in sys.argv[4:])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        port = free_port()
        (folder / "specs.lua").write_text(
            SPECS.format(arguments=f"{{ [0] = {json.dumps(busted)}, {arguments} }}"))
        (folder / "nginx.conf").write_text(CONFIGURATION.format(
            folder=folder, modules=modules, port=port, user="user root;" if os.geteuid() == 0 else ""))
        with subprocess.Popen([nginx, "-p", name, "-c", f"{name}/nginx.conf", "-e", f"{name}/error.log"]) as server:
            try:
                for _ in range(100):
                    try:
                        request(port, "/ready", 5)
                        break
                    except OSError:
                        time.sleep(0.1)
                status, text = request(port, "/specs", 280)
            except OSError as error:
                status, text = 0, str(error)
            finally:
                server.terminate()
                server.wait()
        print(text)
        log = (folder / "error.log").read_text(errors="replace")
        crashed = "exited on signal" in log
        if status != 200 or crashed:
            print(log)
        return 0 if status == 200 and not crashed else 1


if __name__ == "__main__":
    sys.exit(main())
