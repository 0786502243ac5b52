// HTTP server of the oracle: `server ADDRESS...` listens on an ephemeral port of each and prints the ports on one line.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

var proofs = []string{"Authorization", "X-Api-Key", "Cookie", "X-Internal-Auth", "Signature"}
var statuses = map[string]int{"open": 200, "forbidden": 403, "missing": 404, "error": 500, "cors": 200, "redirect": 302}

func send(w http.ResponseWriter, status int, body string) {
	if status != 204 && status != 304 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	if status != 204 && status != 304 {
		io.WriteString(w, body)
	}
}

// raw takes the connection over, writes head and, for an upgrade, echoes what follows.
func raw(w http.ResponseWriter, head string, echo bool) {
	connection, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer connection.Close()
	io.WriteString(connection, head)
	if echo {
		io.Copy(connection, buffered)
	}
}

func answer(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	route := parts[1]
	if route == "upgrade" {
		raw(w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: oracle\r\n\r\n", true)
		return
	}
	length, _ := io.Copy(io.Discard, r.Body)
	switch route {
	case "guarded":
		for _, name := range proofs {
			if r.Header.Get(name) != "" {
				send(w, 200, "welcome\n")
				return
			}
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		send(w, 401, "who are you?\n")
	case "big":
		size, _ := strconv.Atoi(parts[2])
		send(w, 200, strings.Repeat("x", size))
	case "chunked":
		w.Header().Set("Trailer", "X-Sum")
		for _, size := range []int{1, 300, 5000} {
			io.WriteString(w, strings.Repeat("y", size))
			w.(http.Flusher).Flush()
		}
		w.Header().Set("X-Sum", "1")
	case "close":
		raw(w, "HTTP/1.0 200 OK\r\nServer: close\r\n\r\nuntil the end\n", false)
	case "empty":
		send(w, 204, "")
	case "unchanged":
		w.Header().Set("ETag", `"1"`)
		send(w, 304, "")
	case "echo":
		send(w, 200, fmt.Sprintln(length))
	case "hints":
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(103)
		send(w, 200, "hinted\n")
	default:
		if route == "cors" {
			w.Header().Set("Access-Control-Allow-Origin", "*")
		}
		if route == "redirect" {
			w.Header().Set("Location", "/open/redirected")
		}
		status, known := statuses[route]
		if !known {
			status = 404
		}
		send(w, status, route+"\n")
	}
}

func main() {
	for _, address := range os.Args[1:] {
		listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			panic(err)
		}
		fmt.Print(listener.Addr().(*net.TCPAddr).Port, " ")
		go http.Serve(listener, http.HandlerFunc(answer))
	}
	fmt.Println()
	io.Copy(io.Discard, os.Stdin)
}
