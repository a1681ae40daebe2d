package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-ha/holdfast/pkg/pool"
)

// Life-times. A server renews its own certificate when a third of its life is left; an operator gets a new one by
// a token. A witness cannot renew its own, as it has no CA key, and is easily forgotten. Backdate allows for servers
// whose clocks are behind when they join.
const (
	CALife       = 20 * 365 * 24 * time.Hour
	WitnessLife  = 10 * 365 * 24 * time.Hour
	ServerLife   = 2 * 365 * 24 * time.Hour
	OperatorLife = 365 * 24 * time.Hour
	backdate     = time.Hour
)

// Authority is the pool's CA with its key. Safe for concurrent use.
type Authority struct {
	Cert *x509.Certificate
	// others are the CAs that are trusted beside it while one follows another.
	others []*x509.Certificate
	key    *ecdsa.PrivateKey
}

// Pair is a certificate chain and its key, as PEM.
type Pair struct {
	// Cert holds the certificate, then the CA's, so that a joining server can compare the latter with its pin.
	Cert []byte
	Key  []byte
}

// NewAuthority makes the CA of a new pool, valid from now on.
func NewAuthority(poolName string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		// Its number tells a pool's CAs apart: chains are put together by the subject.
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Holdfast pool " + poolName, Organization: []string{poolName}, SerialNumber: serial.Text(16)},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(CALife), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: 1, // its successor; see Introduce
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	return &Authority{Cert: cert, key: key}, nil
}

// ParseAuthority reads a CA from PEM: of the certificates, the one that the key belongs to. The others are trusted, and
// sign nothing.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := ParseChain(certPEM)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	a := &Authority{key: key}
	for _, c := range certs {
		switch {
		case !c.IsCA:
			return nil, fmt.Errorf("the certificate of %q is no CA's: %w", c.Subject.CommonName, pool.ErrInvalid)
		case a.Cert == nil && key.PublicKey.Equal(c.PublicKey):
			a.Cert = c
		default:
			a.others = append(a.others, c)
		}
	}
	if a.Cert == nil {
		return nil, fmt.Errorf("CA certificate and key do not belong together: %w", pool.ErrInvalid)
	}
	return a, nil
}

// Trusting returns the same CA with others trusted beside it and those that are already, each once.
func (a *Authority) Trusting(others ...*x509.Certificate) *Authority {
	b := &Authority{Cert: a.Cert, key: a.key, others: slices.Clone(a.others)}
	for _, c := range others {
		if !c.Equal(a.Cert) && !slices.ContainsFunc(b.others, c.Equal) {
			b.others = append(b.others, c)
		}
	}
	return b
}

// Trusted returns all CAs that are trusted, this one first.
func (a *Authority) Trusted() []*x509.Certificate {
	return append([]*x509.Certificate{a.Cert}, a.others...)
}

// PEM returns the CA as it is stored: its certificate, those that are trusted beside it, and its key.
func (a *Authority) PEM() (Pair, error) {
	key, err := encodeKey(a.key)
	if err != nil {
		return Pair{}, err
	}
	var certs []byte
	for _, c := range a.Trusted() {
		certs = append(certs, encodeCert(c.Raw)...)
	}
	return Pair{Cert: certs, Key: key}, nil
}

// Pin returns the fingerprint of this CA; see PinOf.
func (a *Authority) Pin() string { return PinOf(a.Cert) }

// Pool returns the pool's name.
func (a *Authority) Pool() string { return first(a.Cert.Subject.Organization) }

// Request is what a certificate shall say. Hosts are IP addresses and DNS names where a machine is reached; its
// name, ServerHost, localhost and the loopback addresses are added by themselves. Operators have none.
type Request struct {
	Name  string
	Role  Role
	Hosts []string
}

// Issue makes a key and a certificate for it. life 0 means the role's usual one.
func (a *Authority) Issue(r Request, now time.Time, life time.Duration) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make key: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Pair{}, err
	}
	cert, err := a.sign(r, key.Public(), now, life)
	return Pair{Cert: cert, Key: keyPEM}, err
}

// Sign makes a certificate for the key of a signing request (PEM). Only the request's key is used, and only after
// its signature proves that the sender has it: name, role and hosts are the caller's decision.
func (a *Authority) Sign(csrPEM []byte, r Request, now time.Time, life time.Duration) ([]byte, error) {
	csr, err := parseRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	return a.sign(r, csr.PublicKey, now, life)
}

// RequestKey returns the public key of a signing request (PEM) in its DER form, after checking the signature.
func RequestKey(csrPEM []byte) ([]byte, error) {
	csr, err := parseRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	return csr.RawSubjectPublicKeyInfo, nil
}

func parseRequest(csrPEM []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("signing request is not PEM: %w", pool.ErrInvalid)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing request: %w: %w", err, pool.ErrInvalid)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("signing request: %w: %w", err, pool.ErrInvalid)
	}
	if k, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, fmt.Errorf("signing request: the key must be ECDSA P-256: %w", pool.ErrInvalid)
	}
	return csr, nil
}

func (a *Authority) sign(r Request, public any, now time.Time, life time.Duration) ([]byte, error) {
	if err := pool.CheckName(string(r.Role), r.Name); err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	if life == 0 {
		life = ServerLife
		switch {
		case r.Role.Operator():
			life = OperatorLife
		case r.Role == RoleWitness:
			life = WitnessLife
		}
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: r.Name, OrganizationalUnit: []string{string(r.Role)}, Organization: []string{a.Pool()}},
		NotBefore:    now.Add(-backdate), NotAfter: earlier(now.Add(life), a.Cert.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	switch {
	case r.Role.Machine():
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		t.DNSNames, t.IPAddresses = subjects(r)
	case !r.Role.Operator():
		return nil, fmt.Errorf("no such role %q: %w", r.Role, pool.ErrInvalid)
	case len(r.Hosts) > 0:
		return nil, fmt.Errorf("%s certificates name no hosts: %w", r.Role, pool.ErrInvalid)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.Cert, public, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %s: %w", r.Name, err)
	}
	return append(encodeCert(der), a.chain()...), nil
}

// subjects sorts a machine's hosts into DNS names and addresses.
func subjects(r Request) ([]string, []net.IP) {
	names := []string{ServerHost, "localhost", r.Name}
	ips := []net.IP{net.IPv4(127, 0, 0, 1).To4(), net.IPv6loopback}
	for _, h := range r.Hosts {
		ip := net.ParseIP(h)
		switch {
		case ip == nil && !slices.Contains(names, h):
			names = append(names, h)
		case ip != nil && !slices.ContainsFunc(ips, ip.Equal):
			ips = append(ips, ip)
		}
	}
	return names, ips
}

// PinOf returns "sha256:" and the hash of a certificate's public key in hex. It survives a renewal of the CA's
// certificate with the same key.
func PinOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// NewRequest makes a key and a signing request for it, both PEM. The request names nobody: the signer decides.
func NewRequest() (csr, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	if key, err = encodeKey(k); err != nil {
		return nil, nil, err
	}
	csr, err = requestFor(k)
	return csr, key, err
}

// RequestFor makes a signing request for a key made earlier.
func RequestFor(keyPEM []byte) ([]byte, error) {
	k, err := parseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	return requestFor(k)
}

func requestFor(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, k)
	if err != nil {
		return nil, fmt.Errorf("make signing request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// ParseCert returns the first certificate of a PEM chain.
func ParseCert(chain []byte) (*x509.Certificate, error) {
	all, err := ParseChain(chain)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// ParseChain returns all certificates of a PEM file, at least one.
func ParseChain(chain []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := bytes.TrimSpace(chain); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, more := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("not a PEM certificate: %w", pool.ErrInvalid)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", err, pool.ErrInvalid)
		}
		all, rest = append(all, c), more
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no certificate: %w", pool.ErrInvalid)
	}
	return all, nil
}

func parseKey(keyPEM []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(keyPEM)
	if block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, fmt.Errorf("not a PEM key: %w", pool.ErrInvalid)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, pool.ErrInvalid)
	}
	ec, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("not an ECDSA key: %w", pool.ErrInvalid)
	}
	return ec, nil
}

func encodeKey(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// newSerial draws 127 random bits: unique without a counter that servers would have to share. RFC 5280, 4.1.2.2.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return n, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}
