// HTTPS server and client of the plaintext tests, one program: `main serve FOLDER` prints its port; `main call FOLDER PORT` reads a
// path, and maybe a credential behind a blank, from each line of standard input and prints each answer's status.
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

func call(folder, port string) {
	pem, err := os.ReadFile(folder + "/server.pem")
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
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
	if os.Args[1] == "serve" {
		serve(os.Args[2])
	} else {
		call(os.Args[2], os.Args[3])
	}
}
