// HTTPS server and client of the plaintext tests, one program: `main serve FOLDER` prints its port; `main call FOLDER PORT` reads a
// path, and maybe a credential behind a blank, from each line of standard input and prints each answer's status; `main deep FOLDER
// PORT PATH COUNT` makes GETs of PATH/0, PATH/1 and so on over one connection, each written by a goroutine of its own from deeper in
// its stack, so that some stacks grow as the write begins, and prints how many were answered.
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
	"strconv"
	"strings"
)

func answer(writer http.ResponseWriter, request *http.Request) {
	if request.Header.Get("Authorization") == "" {
		writer.WriteHeader(http.StatusUnauthorized)
	}
	io.WriteString(writer, "ok\n")
}

func serve(folder string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	// No HTTP/2.
	server := &http.Server{
		Handler:      http.HandlerFunc(answer),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go server.ServeTLS(listener, folder+"/server.pem", folder+"/server.key")
	io.Copy(io.Discard, os.Stdin)
}

func trust(folder string) *tls.Config {
	pem, err := os.ReadFile(folder + "/server.pem")
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: roots}
}

//go:noinline
func descend(depth int, connection *tls.Conn, bytes []byte) error {
	if depth > 0 {
		return descend(depth-1, connection, bytes)
	}
	_, err := connection.Write(bytes)
	return err
}

func deep(folder, port, path, count string) {
	connection, err := tls.Dial("tcp", "127.0.0.1:"+port, trust(folder))
	if err != nil {
		panic(err)
	}
	most, err := strconv.Atoi(count)
	if err != nil {
		panic(err)
	}
	answers, answered := bufio.NewReader(connection), 0
	for depth := 0; depth < most; depth++ {
		written := make(chan error)
		bytes := []byte(fmt.Sprintf("GET %s/%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path, depth))
		go func() { written <- descend(depth, connection, bytes) }()
		if err := <-written; err != nil {
			panic(err)
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, response.Body)
		answered++
	}
	connection.Close()
	fmt.Println(answered)
}

func call(folder, port string) {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust(folder)}}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		path, credential, found := strings.Cut(lines.Text(), " ")
		request, err := http.NewRequest("GET", "https://127.0.0.1:"+port+path, nil)
		if err != nil {
			panic(err)
		}
		if found {
			request.Header.Set("Authorization", credential)
		}
		response, err := client.Do(request)
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		fmt.Println(response.StatusCode)
	}
}

func main() {
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2])
	case "deep":
		deep(os.Args[2], os.Args[3], os.Args[4], os.Args[5])
	default:
		call(os.Args[2], os.Args[3])
	}
}
