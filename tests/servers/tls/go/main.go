// TLS server of the matrix: `main DIRECTORY MODE:VERSION...`; what it prints and answers is in `tests/src/tls/servers.rs`.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

var modes = map[string]tls.ClientAuthType{
	"off": tls.NoClientCert, "optional": tls.VerifyClientCertIfGiven, "required": tls.RequireAndVerifyClientCert,
}
var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func configuration(directory, endpoint string) (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(directory, "server.pem"), filepath.Join(directory, "server.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(directory, "authority.pem"))
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	mode, version, _ := strings.Cut(endpoint, ":")
	return &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientAuth: modes[mode], ClientCAs: trusted,
		MinVersion: versions[version], MaxVersion: versions[version],
	}, nil
}

func serve(plain net.Conn, config *tls.Config, version string) {
	defer plain.Close()
	port := plain.RemoteAddr().(*net.TCPAddr).Port
	connection := tls.Server(plain, config)
	if err := connection.Handshake(); err != nil {
		fmt.Printf("refused %d %v\n", port, err)
		return
	}
	if _, err := http.ReadRequest(bufio.NewReader(connection)); err != nil {
		fmt.Printf("refused %d %v\n", port, err)
		return
	}
	state := connection.ConnectionState()
	resumed, subject := "no", "-"
	if state.DidResume {
		resumed = "yes"
	}
	if len(state.PeerCertificates) > 0 {
		subject = state.PeerCertificates[0].Subject.CommonName
	}
	line := fmt.Sprintf("%d\t%s\t%s\t%s\n", port, version, resumed, subject)
	fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(line), line)
	connection.Close()
}

func main() {
	var ports []string
	for _, endpoint := range os.Args[2:] {
		config, err := configuration(os.Args[1], endpoint)
		if err != nil {
			log.Fatal(err)
		}
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		ports = append(ports, fmt.Sprint(listener.Addr().(*net.TCPAddr).Port))
		_, version, _ := strings.Cut(endpoint, ":")
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					log.Fatal(err)
				}
				go serve(connection, config, version)
			}
		}()
	}
	fmt.Println(strings.Join(ports, " "))
	io.Copy(io.Discard, os.Stdin)
}
