// HTTP/2 inside TLS, server and client in one program: `main serve FOLDER` prints its port; `main call FOLDER PORT NAME` makes the
// calls that come on standard input, a line each, up to 50 at once over one connection, until an empty line, and prints how many
// were answered. NAME is that of a client certificate, or `-`. What paths mean is in `tests/tests/plaintext_http2.rs`.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func authorities(folder string) *x509.CertPool {
	pem, err := os.ReadFile(folder + "/authority.pem")
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return pool
}

func answer(writer http.ResponseWriter, request *http.Request) {
	parts := strings.Split(request.URL.Path, "/")
	io.Copy(io.Discard, request.Body)
	switch parts[3] {
	case "grpc":
		writer.Header().Set("Content-Type", "application/grpc")
		writer.Header().Set("Trailer", "Grpc-Status")
		writer.Write(make([]byte, 300))
		// Else it has a Content-Length, behind which curl resets the stream: the status may not have been sent by then.
		writer.(http.Flusher).Flush()
		writer.Header().Set("Grpc-Status", parts[4])
	case "large":
		writer.Write(make([]byte, 50_000))
	default:
		if request.Header.Get("Authorization") == "" && parts[3] != "certificate" {
			writer.WriteHeader(http.StatusUnauthorized)
		}
		io.WriteString(writer, "ok\n")
	}
}

func serve(folder string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	asks := &tls.Config{ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: authorities(folder)}
	server := &http.Server{Handler: http.HandlerFunc(answer), TLSConfig: asks}
	go server.ServeTLS(listener, folder+"/server.pem", folder+"/server.key")
	io.Copy(io.Discard, os.Stdin)
}

func call(client *http.Client, base, line string) bool {
	path, credential, _ := strings.Cut(line, " ")
	method, body := "GET", ""
	switch strings.Split(path, "/")[3] {
	case "post":
		method, body = "POST", strings.Repeat("y", 60_000)
	case "grpc":
		method, body = "POST", strings.Repeat("z", 300)
	}
	request, err := http.NewRequest(method, base+path, strings.NewReader(body))
	check(err)
	if credential != "" {
		request.Header.Set("Authorization", credential)
	}
	switch strings.Split(path, "/")[3] {
	case "grpc":
		request.Header.Set("Content-Type", "application/grpc")
	case "long":
		request.Header.Set("X-Long", strings.Repeat("h", 40_000))
	}
	response, err := client.Do(request)
	check(err)
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.ProtoMajor == 2
}

func calls(folder, port, name string) {
	config := &tls.Config{RootCAs: authorities(folder)}
	if name != "-" {
		certificate, err := tls.LoadX509KeyPair(folder+"/"+name+".pem", folder+"/"+name+".key")
		check(err)
		config.Certificates = []tls.Certificate{certificate}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	base := "https://127.0.0.1:" + port
	lines := bufio.NewScanner(os.Stdin)
	var group sync.WaitGroup
	var lock sync.Mutex
	limit, answered := make(chan bool, 50), 0
	for first := true; lines.Scan() && lines.Text() != ""; first = false {
		one := func(line string) {
			if call(client, base, line) {
				lock.Lock()
				answered++
				lock.Unlock()
			}
		}
		if first {
			// The connection that all others share.
			one(lines.Text())
			continue
		}
		group.Add(1)
		limit <- true
		go func(line string) {
			one(line)
			<-limit
			group.Done()
		}(lines.Text())
	}
	group.Wait()
	fmt.Println(answered)
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	} else {
		calls(os.Args[2], os.Args[3], os.Args[4])
	}
}
