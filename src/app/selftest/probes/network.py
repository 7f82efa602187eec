"""Ways out."""

NOWHERE = {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def connects(where, family=socket.AF_INET, also=NOWHERE):
    """A time-out is a packet that left: not a refusal."""
    def dial():
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(2)
            try:
                s.connect(where)
            except socket.timeout:
                pass
    attempt(f"connect {where}", dial, also)


@attack
def addresses_outside():
    for address in ("198.51.100.1", "192.0.2.1", "203.0.113.1", "10.0.0.1", "100.64.0.1", "224.0.0.1", "255.255.255.255") if not FREE else ("127.0.0.1",):
        connects((address, HOST["port"]))
        def send():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                s.sendto(b"x", (address, 9))
        attempt(f"datagram to {address}", send, NOWHERE)


@attack
def the_metadata_service():
    for address in ("169.254.169.254", "169.254.170.2") if not FREE else ("127.0.0.1",):
        connects((address, 80 if not FREE else HOST["port"]))
    if not FREE:
        connects(("fd00:ec2::254", 80), socket.AF_INET6)


@attack
def gateways_and_addresses_of_the_host():
    for address in ["172.17.0.1", "172.18.0.1", "192.168.65.2", *HOST["addresses"]] if not FREE else HOST["addresses"]:
        connects((address, HOST["port"]))
    routes = [l for l in open("/proc/net/route").read().splitlines()[1:]]
    claim("a route", bool(routes), str(routes))
    claim("an interface", any(n != "lo" for _, n in socket.if_nameindex()), str(socket.if_nameindex()))


@attack
def loopback_services_of_the_host():
    """A refused connection is this world's own loopback, with nobody on it."""
    for address in ("127.0.0.1", "127.0.1.1", "0.0.0.0"):
        connects((address, HOST["port"]), also=NOWHERE | {errno.ECONNREFUSED})
    for address in ("::1", "::ffff:127.0.0.1", "::"):
        connects((address, HOST["port6"] if address == "::1" else HOST["port"]), socket.AF_INET6, NOWHERE | {errno.ECONNREFUSED})


@attack
def ipv6():
    for address in ("2001:db8::1", "fd00::1", "ff02::1", "64:ff9b::c633:6401", "::ffff:198.51.100.1"):
        if not FREE:
            connects((address, 80), socket.AF_INET6, NOWHERE | {errno.EINVAL})
    for line in open("/proc/net/if_inet6") if os.path.exists("/proc/net/if_inet6") else []:
        if not FREE:
            claim("an address", line.split()[5] != "lo", line)
    if FREE:
        connects(("::1", HOST["port6"]), socket.AF_INET6)


@attack
def names():
    servers = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")] if os.path.exists("/etc/resolv.conf") else []
    for server in servers + ["127.0.0.11", "127.0.0.53", "198.51.100.53"] if not FREE else []:
        def ask():
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.settimeout(1)
                s.connect((server, 53))
                s.send(b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\7example\3com\0\0\1\0\1")
                if not s.recv(512):
                    raise OSError(errno.ECONNREFUSED, "")
        attempt(f"ask {server}", ask, NOWHERE | {errno.ECONNREFUSED})
    for name in ("host.docker.internal", "gateway.docker.internal", "metadata.google.internal", "example.com") if not FREE else ("localhost",):
        try:
            found = socket.getaddrinfo(name, 80)
        except socket.gaierror:
            found = []
        claim(f"resolve {name}", bool(found), str(found[:1]))


@attack
def sockets_below_ip():
    door("raw ICMP", (41, 198), 2, 3, 1)
    door("raw UDP", (41, 198), 2, 3, 17)
    door("raw, own header", (41, 198), 2, 3, 255)
    door("raw ICMPv6", (41, 198), 10, 3, 58)
    door("packet", (41, 198), 17, 3, 0x300)
    door("packet, cooked", (41, 198), 17, 2, 0x300)


@attack
def families_no_namespace_holds():
    for name, family, kind in (("vsock", 40, 1), ("vsock datagram", 40, 2), ("alg", 38, 5), ("bluetooth", 31, 3), ("can", 29, 3), ("tipc", 30, 1),
                               ("xdp", 44, 3), ("key", 15, 3), ("rds", 21, 5), ("smc", 43, 1), ("nfc", 39, 3), ("qipcrtr", 42, 2), ("kcm", 41, 5),
                               ("x25", 9, 5), ("ax25", 3, 5), ("appletalk", 5, 2), ("ieee802154", 36, 2), ("mctp", 45, 2), ("iucv", 32, 1)):
        door(name, (41, 198), family, kind, 2 if name == "key" else 0, also={errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT})
        door(f"pair of {name}", (53, 199), family, kind, 0, ctypes.create_string_buffer(8), also={errno.EAFNOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP})


@attack
def netlink():
    for name, number in (("usersock", 2), ("sock_diag", 4), ("xfrm", 6), ("audit", 9), ("connector", 11), ("netfilter", 12), ("kobject_uevent", 15),
                         ("generic", 16), ("crypto", 21)):
        door(name, (41, 198), 16, 3, number, also={errno.EPROTONOSUPPORT})

    def add_link():
        # RTM_NEWLINK of a "dummy": IFLA_LINKINFO { IFLA_INFO_KIND "dummy" }
        kind = struct.pack("HH", 9, 1) + b"dummy" + b"\0" * 3
        body = struct.pack("BxHiII", 0, 0, 0, 0, 0) + struct.pack("HH", 4 + len(kind), 18) + kind
        with socket.socket(16, 3, 0) as s:
            s.send(struct.pack("IHHII", 16 + len(body), 16, 0x605, 1, 0) + body)
            code = struct.unpack("i", s.recv(4096)[16:20])[0]
            if code:
                raise OSError(-code, "")
    attempt("a new interface", lambda: in_child(add_link))
    import fcntl
    for what, request in (("up", 0x8914), ("address", 0x8916), ("route", 0x890B)):
        def ask():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                fcntl.ioctl(s, request, struct.pack("16sH14x32x", b"lo", 1))
        if not FREE:
            attempt(f"ioctl {what}", lambda: in_child(ask))


@attack
def unix_sockets_of_the_host():
    for path in (HOST["socket"], "/proc/1/root" + HOST["socket"], "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock",
                 "/run/dbus/system_bus_socket", "/run/systemd/private", "/tmp/.X11-unix/X0"):
        if not FREE or path == HOST["socket"]:
            connects(path, socket.AF_UNIX, ABSENT | {errno.ECONNREFUSED})


@attack
def abstract_sockets_of_the_host():
    connects("\0" + HOST["abstract"], socket.AF_UNIX, {errno.ECONNREFUSED})

    def datagram():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"x", "\0" + HOST["abstract"] + "-datagram")
    attempt("datagram", datagram, {errno.ECONNREFUSED})
    told = open("/proc/net/unix").read()
    claim("see it in /proc/net/unix", HOST["abstract"] in told)


@attack
def shared_memory_and_queues_of_the_host():
    told = open("/proc/sysvipc/shm").read().splitlines()[1:] if os.path.exists("/proc/sysvipc/shm") else []
    claim("see segments of others", bool(told), str(told))
    claim("see the host's /dev/shm", os.path.basename(HOST["shm"]) in os.listdir("/dev/shm"))


@attack
def connections_of_the_host():
    """What its sockets are connected to, and who is near, needs no packet."""
    def lines(name):
        try:
            return open(f"/proc/net/{name}").read().splitlines()
        except OSError:
            return []
    listens = f":{HOST['port']:04X} 00000000:0000 0A"
    claim("its listener", any(listens in line for line in lines("tcp")))
    claim("its neighbours", bool(lines("arp")[1:]), str(lines("arp")[1:2]))
    claim("its interfaces", any(":" in line and line.split(":")[0].strip() != "lo" for line in lines("dev")))
    addresses = [a for a in HOST["addresses"] if not a.startswith("127.")]
    claim("its addresses", any(a in line for line in lines("fib_trie") for a in addresses))


@attack
def protocols_besides_tcp_and_udp():
    """Each is a driver of its own, loaded for whoever asks: what is not there was looked for."""
    for version, family in (("4", 2), ("6", 10)):
        for name, kind, protocol in (("sctp", 1, 132), ("sctp, in records", 5, 132), ("dccp", 6, 33), ("udplite", 2, 136), ("mptcp", 1, 262),
                                     ("smc", 1, 256), ("l2tp", 2, 115), ("ping", 2, 1 if family == 2 else 58), ("records", 5, 0),
                                     ("datagrams that come", 4, 0), ("packets", 10, 0)):
            door(f"{name} over IPv{version}", (41, 198), family, kind, protocol)


@attack
def protocols_on_top_of_tcp():
    """Drivers that take over a connection: loaded by name."""
    for name in (b"tls", b"espintcp", b"smc", b"mptcp"):
        def put():
            with socket.socket() as s:
                s.setsockopt(6, 31, name)
        attempt(name.decode(), put)


@attack
def options_of_sockets():
    """For those that may rule a network, and old doors into its filters (CVE-2021-22555)."""
    for what, family, level, option, value in (("mark", 2, 1, 36, 1), ("priority", 2, 1, 12, 7), ("debug", 2, 1, 1, 1), ("send buffer", 2, 1, 32, 1 << 20),
                                               ("receive buffer", 2, 1, 33, 1 << 20), ("transparent", 2, 0, 19, 1), ("transparent, IPv6", 10, 41, 75, 1),
                                               ("repair", 2, 6, 19, 1), ("filter tables", 2, 0, 64, 0), ("filter tables, IPv6", 10, 41, 64, 0)):
        def put():
            with socket.socket(family) as s:
                s.setsockopt(level, option, value)
        attempt(what, put, {errno.ENOPROTOOPT})


@attack
def routes_rules_and_queues():
    """Without what they are to be: who may make them is asked first."""
    for name, number in (("address", 20), ("route", 24), ("neighbour", 28), ("rule", 32), ("queue", 36), ("class", 40), ("filter", 44), ("peer", 88)):
        def ask():
            with socket.socket(16, 3, 0) as s:
                s.settimeout(10)
                s.send(struct.pack("IHHII", 20, number, 5, 1, 0) + bytes(4))
                code = struct.unpack("i", s.recv(4096)[16:20])[0]
                if code:
                    raise OSError(-code, "")
        attempt(name, lambda: in_child(ask))
