package main

import (
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// describeCertificate says what a certificate says that is not random, and proves that "cert" goes with "key"
// and was signed by "ca", or by itself.
func describeCertificate(asked request) (answer, error) {
	if _, err := tls.X509KeyPair(asked.Files["cert"], asked.Files["key"]); err != nil {
		return answer{}, err
	}
	certificate, err := parseCertificate(asked.Files["cert"])
	if err != nil {
		return answer{}, err
	}
	parent := certificate
	if asked.Files["ca"] != nil {
		if parent, err = parseCertificate(asked.Files["ca"]); err != nil {
			return answer{}, err
		}
		roots := x509.NewCertPool()
		roots.AddCert(parent)
		when := certificate.NotBefore
		if parent.NotBefore.After(when) {
			when = parent.NotBefore
		}
		options := x509.VerifyOptions{Roots: roots, CurrentTime: when, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := certificate.Verify(options); err != nil {
			return answer{}, err
		}
	}
	if err := parent.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature); err != nil {
		return answer{}, err
	}
	if length := certificate.SerialNumber.BitLen(); length > 128 || length < 96 {
		return answer{}, fmt.Errorf("a serial number of %d bits", length)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "version %d, %v over %v\n", certificate.Version, certificate.SignatureAlgorithm, certificate.PublicKeyAlgorithm)
	fmt.Fprintf(&text, "subject %x\nissuer %x\n", certificate.RawSubject, certificate.RawIssuer)
	// sprig asks the clock for both ends: at the turn of a second they are one further apart.
	lifetime := certificate.NotAfter.Sub(certificate.NotBefore).Round(time.Minute)
	fmt.Fprintf(&text, "valid %v\n", lifetime)
	fmt.Fprintf(&text, "usage %b %v\n", certificate.KeyUsage, certificate.ExtKeyUsage)
	fmt.Fprintf(&text, "authority %v %v %d\n", certificate.BasicConstraintsValid, certificate.IsCA, certificate.MaxPathLen)
	fmt.Fprintf(&text, "names %q %v\n", certificate.DNSNames, certificate.IPAddresses)
	fmt.Fprintf(&text, "identifiers %d %v\n", len(certificate.SubjectKeyId), string(certificate.AuthorityKeyId) == string(parent.SubjectKeyId))
	for _, extension := range certificate.Extensions {
		fmt.Fprintf(&text, "extension %v %v\n", extension.Id, extension.Critical)
	}
	return answer{Output: text.String()}, nil
}

func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, rest := pem.Decode(text)
	if block == nil || len(rest) != 0 {
		return nil, errors.New("not one PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}

// describeKey says of which kind and size a private key is, and proves that its parts belong together.
func describeKey(asked request) (answer, error) {
	block, rest := pem.Decode([]byte(asked.Text))
	if block == nil || len(rest) != 0 {
		return answer{}, errors.New("not one PEM block")
	}
	if string(pem.EncodeToMemory(block)) != asked.Text {
		return answer{}, errors.New("not as Go writes it")
	}
	described, err := keySize(block)
	return answer{Output: block.Type + ": " + described}, err
}

func keySize(block *pem.Block) (string, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return "", err
		}
		if string(x509.MarshalPKCS1PrivateKey(key)) != string(block.Bytes) {
			return "", errors.New("other values than Go calculates")
		}
		return rsaSize(key), key.Validate()
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return "", err
		}
		if again, _ := x509.MarshalECPrivateKey(key); string(again) != string(block.Bytes) {
			return "", errors.New("not as Go writes it")
		}
		return key.Curve.Params().Name, nil
	case "DSA PRIVATE KEY":
		return dsaSize(block.Bytes)
	default:
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return "", err
		}
		if again, _ := x509.MarshalPKCS8PrivateKey(key); string(again) != string(block.Bytes) {
			return "", errors.New("not as Go writes it")
		}
		switch key := key.(type) {
		case ed25519.PrivateKey:
			return "ed25519", nil
		case *ecdsa.PrivateKey:
			return key.Curve.Params().Name, nil
		default:
			return fmt.Sprintf("%T", key), nil
		}
	}
}

func rsaSize(key *rsa.PrivateKey) string {
	return fmt.Sprintf("%d bits, exponent %d, %d primes", key.N.BitLen(), key.E, len(key.Primes))
}

func dsaSize(encoded []byte) (string, error) {
	var parts struct {
		Version       int
		P, Q, G, Y, X *big.Int
	}
	if rest, err := asn1.Unmarshal(encoded, &parts); err != nil || len(rest) != 0 {
		return "", fmt.Errorf("not a DSA key: %v", err)
	}
	key := dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: dsa.Parameters{P: parts.P, Q: parts.Q, G: parts.G}, Y: parts.Y}, X: parts.X}
	one := big.NewInt(1)
	orderDivides := new(big.Int).Mod(new(big.Int).Sub(key.P, one), key.Q).Sign() == 0
	rightOrder := new(big.Int).Exp(key.G, key.Q, key.P).Cmp(one) == 0
	rightPublic := new(big.Int).Exp(key.G, key.X, key.P).Cmp(key.Y) == 0
	primes := key.P.ProbablyPrime(20) && key.Q.ProbablyPrime(20)
	return fmt.Sprintf("%d over %d bits, %v %v %v %v", key.P.BitLen(), key.Q.BitLen(), orderDivides, rightOrder, rightPublic, primes), nil
}
