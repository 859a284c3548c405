"""The few options of curl that the documents use, for a machine that has no curl.

`python curl.py [-s -S -N -i -f] [-X METHOD] [-H 'Name: value']... [-d BODY] [--data-raw BODY] URL`
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request


def main() -> int:
    parser = argparse.ArgumentParser()
    for flag in ("-s", "-S", "-N", "-i", "-f"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-d", "--data-raw", dest="data")
    parser.add_argument("url")
    asked = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in asked.headers)
    data = None if asked.data is None else asked.data.encode()
    request = urllib.request.Request(asked.url, data, headers, method=asked.method)
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read().decode()
    if asked.f and answer.status >= 400:
        return 22
    if asked.i:
        sys.stdout.write(f"HTTP/1.1 {answer.status}\n{answer.headers}")
    sys.stdout.write(body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
