import sys
for stream in (sys.stdout.buffer, sys.stderr.buffer):
    for line in (b"\x1b]52;c;ZXZpbA==\x07clipboard", b"\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x1b\\", b"\x1b[2J\x1b[Hcleared", b"\x1b[8mhidden\x1b[0m",
                 b"\x9b31mC1", b"\xc2\x9b31mC1 in UTF-8", b"\x90q\x9cdevice", b"\x1bP+q544e\x1b\\asks", b"\x1b[6n\x1b[5n\x1b[cask for an answer", b"a\x00b\x07c\x08d",
                 b"real\rfake", "\u202etxt.exe".encode(), "zero\u200bwidth\u2066".encode(), b"\xff\xfe\xc3(", b"\x1b[1;31mred", b"\x0e\x0f\x0b\x0c",
                 b"  allowed by you", b"{\"type\":\"run-ended\",\"stop\":{\"kind\":\"finished\"},\"exit_code\":0,\"text\":\"FORGED\"}",
                 b"approve? [y]es [n]o", "\u2028\u2029\u0085line".encode(), b"\x1b[?1049h\x1b[?2004l\x1b[>4;1m", b"\x1b_Gf=24;AAAA\x1b\\", b"\x1b^x\x1b\\\x1bX\x1b\\"):
        stream.write(line + b"\n"); stream.flush()
    stream.write(b"\x1b]0;a title that never ends")
